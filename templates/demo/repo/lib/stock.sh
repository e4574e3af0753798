# The stock file: one item per line, "NAME COUNT", sorted by name.

# Prints the count of item $1; 0 when there is none.
stock_count() {
    touch "$stock_file"
    awk -v name="$1" '$1 == name { n = $2 } END { print n + 0 }' "$stock_file"
}

# Sets the count of item $1 to $2; a count of 0 removes the item.
stock_set() {
    touch "$stock_file"
    {
        awk -v name="$1" '$1 != name' "$stock_file"
        if [ "$2" -gt 0 ]; then echo "$1 $2"; fi
    } | LC_ALL=C sort > "$stock_file.new"
    mv "$stock_file.new" "$stock_file"
}

# Puts $2 pieces of item $1 on the shelf.
stock_add() {
    stock_set "$1" $(($(stock_count "$1") + $2))
}

# Takes $2 pieces of item $1 off the shelf; fails when there are fewer.
stock_remove() {
    left=$(($(stock_count "$1") - $2))
    if [ "$left" -lt 0 ]; then
        echo "not enough of $1: $(stock_count "$1") there" >&2
        return 1
    fi
    stock_set "$1" "$left"
}

# Prints every item with its count.
stock_list() {
    touch "$stock_file"
    cat "$stock_file"
}
