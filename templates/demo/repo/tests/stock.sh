# Adding and removing change the count; more than there is cannot be removed.
sh inventory.sh add nut 3
sh inventory.sh add bolt 40
sh inventory.sh remove bolt 5
test "$(sh inventory.sh list)" = "bolt 35
nut 3"

if sh inventory.sh remove nut 4 2> /dev/null; then exit 1; fi
test "$(sh inventory.sh list | tail -n 1)" = "nut 3"

sh inventory.sh remove nut 3
test "$(sh inventory.sh list)" = "bolt 35"
