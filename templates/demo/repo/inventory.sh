#!/bin/sh
# Command line of the inventory: reads the arguments, calls the functions in lib/.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
stock_file=${INVENTORY_FILE:-stock.txt}
for part in "$here"/lib/*.sh; do
    . "$part"
done

usage() {
    cat <<'END'
usage: inventory.sh COMMAND [ARGUMENT...]
  add NAME COUNT      put COUNT pieces of NAME on the shelf
  remove NAME COUNT   take COUNT pieces of NAME off the shelf
  list                show every item with its count
END
}

case ${1:-} in
    add) shift && stock_add "$@" ;;
    remove) shift && stock_remove "$@" ;;
    list) stock_list ;;
    help | --help) usage ;;
    *) usage >&2 && exit 2 ;;
esac
