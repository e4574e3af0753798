# Every command that exists is in the usage text, and an unknown one is refused with it.
for command in $(sed -n 's/^    \([a-z]*\)) .*/\1/p' inventory.sh); do
    sh inventory.sh help | grep -q "^  $command "
done

code=0
sh inventory.sh juggle > /dev/null 2>&1 || code=$?
test "$code" -eq 2
