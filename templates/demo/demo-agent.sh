#!/bin/sh
# The agent of `swarm demo`: a script that works on the four demo tickets the way an agent would, without a model.
# usage: demo-agent.sh PROMPT_FILE, in the worktree, with SWARM_TICKET set.
#
# Every step looks at the worktree first and does only what is missing, so a run that was cut short, and a second run
# on a branch that conflicts with the target, both go on where the work stands.
set -eu

ticket=${SWARM_TICKET:?}
# The branch that `swarm demo` makes its repository with.
target=main
prompt_file=${1:-${SWARM_PROMPT_FILE:?}}
cd "${SWARM_WORKTREE:-.}"

# The pauses are for people who watch; nothing depends on them, and DEMO_PAUSE=0 leaves them out.
pause() {
    sleep "${DEMO_PAUSE:-0.1}" 2> /dev/null || :
}

say() {
    echo "> $*"
    pause
}

told_commit() {
    echo "  committed $(git log -1 --format='%h %s')"
    pause
}

# Puts line $3 into file $1 after the first line that starts with $2.
insert_after() {
    text=$(AFTER=$2 LINE=$3 awk '
        { print }
        !done && index($0, ENVIRON["AFTER"]) == 1 { print ENVIRON["LINE"]; done = 1 }
        END { if (!done) exit 1 }
    ' "$1")
    printf '%s\n' "$text" > "$1"
}

# Adds a command to inventory.sh: $1 its name, $2 its usage line, $3 its line in the case.
add_command() {
    if grep -q "^    $1)" inventory.sh; then return 0; fi
    say "edit inventory.sh: command and usage line for $1"
    insert_after inventory.sh '  list  ' "$2"
    insert_after inventory.sh '    list)' "$3"
}

# Shows what the tests print; fails as they do.
run_tests() {
    say "run sh test.sh"
    code=0
    output=$(sh test.sh 2>&1) || code=$?
    echo "$output" | sed 's/^/  /'
    return "$code"
}

# Ends a ticket's work: tests and commits what changed. $1 subject, $2 reason, then the files.
finish() {
    subject=$1
    reason=$2
    shift 2
    git add "$@"
    if git diff --cached --quiet; then
        say "everything the ticket asks for is committed"
        return 0
    fi
    run_tests
    git commit -q -m "$subject" -m "$reason"
    told_commit
}

work_search() {
    if [ ! -f lib/search.sh ]; then
        say "write lib/search.sh"
        cat > lib/search.sh <<'END'
# Prints the items whose name contains $1, whatever the case; fails when there is none.
stock_search() {
    stock_list | WANTED=$1 awk '
        BEGIN { wanted = tolower(ENVIRON["WANTED"]) }
        index(tolower($1), wanted) { print; found = 1 }
        END { exit !found }
    '
}
END
    fi
    add_command search \
        '  search TEXT         show the items whose name contains TEXT' \
        '    search) shift && stock_search "$@" ;;'
    if [ ! -f tests/search.sh ]; then
        say "write tests/search.sh"
        cat > tests/search.sh <<'END'
# A search finds parts of names, ignores case, and fails when nothing matches.
sh inventory.sh add bolt 40
sh inventory.sh add Boltcutter 2
sh inventory.sh add nut 3
test "$(sh inventory.sh search OLT)" = "Boltcutter 2
bolt 40"
if sh inventory.sh search screw; then exit 1; fi
END
    fi
    finish "Add the command search" \
        "It lists the items whose name contains a text, whatever the case,
and fails when there is none." \
        inventory.sh lib/search.sh tests/search.sh
}

work_total() {
    if [ ! -f lib/total.sh ]; then
        say "write lib/total.sh"
        cat > lib/total.sh <<'END'
# Prints the sum of all counts; 0 for an empty list.
stock_total() {
    stock_list | awk '{ sum += $2 } END { print sum + 0 }'
}
END
    fi
    add_command total \
        '  total               show how many pieces there are in all' \
        '    total) stock_total ;;'
    if [ ! -f tests/total.sh ]; then
        say "write tests/total.sh"
        cat > tests/total.sh <<'END'
# The total is the sum of all counts, and 0 for an empty list.
test "$(sh inventory.sh total)" = 0
sh inventory.sh add bolt 40
sh inventory.sh add nut 3
test "$(sh inventory.sh total)" = 43
END
    fi
    finish "Add the command total" \
        "It prints how many pieces there are in all." \
        inventory.sh lib/total.sh tests/total.sh
}

work_counts() {
    if [ ! -f tests/counts.sh ]; then
        say "write tests/counts.sh"
        cat > tests/counts.sh <<'END'
# A count is a whole number of at least 1; anything else is refused and changes nothing.
sh inventory.sh add bolt 40
for value in -3 0 08 1.5 many 3x ''; do
    for command in add remove; do
        if message=$(sh inventory.sh "$command" bolt "$value" 2>&1); then exit 1; fi
        test "$message" = "not a count: $value"
    done
done
test "$(sh inventory.sh list)" = "bolt 40"
END
        if run_tests; then
            echo "the new test passes without the change, so it shows nothing" >&2
            return 1
        fi
        say "it fails, as it should before the change"
    fi
    if ! grep -q check_count lib/stock.sh; then
        say "edit lib/stock.sh: check the count in add and remove"
        insert_after lib/stock.sh 'stock_add() {' '    check_count "$2" || return 1'
        insert_after lib/stock.sh 'stock_remove() {' '    check_count "$2" || return 1'
        cat >> lib/stock.sh <<'END'

# Fails with a message unless $1 is a whole number of at least 1, in digits. No zero in front: the shell
# would take the number for an octal one.
check_count() {
    case $1 in
        '' | 0* | *[!0-9]*)
            echo "not a count: $1" >&2
            return 1
            ;;
    esac
}
END
    fi
    finish "Refuse counts that are not whole numbers" \
        "A negative count turned add into remove, and a word reached the
arithmetic of the shell." \
        lib/stock.sh tests/counts.sh
}

work_docs() {
    say "read inventory.sh and lib/stock.sh"
    if ! grep -q '^## The stock file' README.md; then
        say "edit README.md: section on the stock file"
        cat >> README.md <<'END'

## The stock file

The list is kept in `stock.txt` in the current folder. Set `INVENTORY_FILE` to keep it elsewhere:

    INVENTORY_FILE=/srv/shop/stock.txt sh inventory.sh list

Each line is one item, its name and its count with a space between them, sorted by name:

    bolt 35
    nut 3

An item whose count reaches 0 is removed from the file.
END
    fi
    say "try the example of the README"
    example=$(mktemp)
    INVENTORY_FILE=$example sh inventory.sh add bolt 40
    INVENTORY_FILE=$example sh inventory.sh remove bolt 5
    INVENTORY_FILE=$example sh inventory.sh list | sed 's/^/  /'
    rm -f "$example"
    finish "Document the stock file" \
        "Where it is, how to move it, and what a line looks like." \
        README.md
}

# Resolves one file in conflict. Both sides added lines at the same place, and neither changed a line of the other,
# so both additions stay, the target's first. Anything else is not for a script to decide.
keep_both_additions() {
    for stage in 1 2 3; do
        git show ":$stage:$1" > "$merge_folder/$stage"
    done
    for side in 2 3; do
        if diff "$merge_folder/1" "$merge_folder/$side" | grep -q '^<'; then
            echo "cannot resolve $1: one side changes lines that the other side knows" >&2
            return 1
        fi
    done
    echo "  this branch:"
    diff "$merge_folder/1" "$merge_folder/2" | sed -n 's/^> /    + /p'
    echo "  $target:"
    diff "$merge_folder/1" "$merge_folder/3" | sed -n 's/^> /    + /p'
    pause
    say "edit $1: keep what both sides added"
    git merge-file -p --union "$merge_folder/3" "$merge_folder/1" "$merge_folder/2" > "$merge_folder/merged"
    cat "$merge_folder/merged" > "$1"
    git add "$1"
}

# Merges the target into the branch, which makes the conflict visible, and resolves it.
merge_target() {
    if git merge-base --is-ancestor "$target" HEAD; then
        say "$target holds nothing new"
        return 0
    fi
    say "git merge $target"
    if git merge -q --no-edit "$target" > /dev/null 2>&1; then
        say "no conflict"
        run_tests
        return 0
    fi
    files=$(git diff --name-only --diff-filter=U)
    if [ -z "$files" ]; then
        echo "git merge $target failed without a conflict" >&2
        return 1
    fi
    merge_folder=$(mktemp -d)
    trap 'rm -rf "$merge_folder"' EXIT
    for file in $files; do
        say "conflict in $file; read both sides"
        keep_both_additions "$file"
    done
    git diff --cached --check
    run_tests
    git commit -q -m "Merge $target into $(git branch --show-current)" \
        -m "Both sides added a command at the same place; both are kept.

Files that conflicted:
$(echo "$files" | sed 's/^/- /')"
    told_commit
}

case $ticket in
    search | total | counts | docs) ;;
    *)
        echo "demo-agent knows no ticket $ticket; it plays search, total, counts and docs" >&2
        exit 1
        ;;
esac

say "ticket $ticket, attempt ${SWARM_ATTEMPT:-1} (a script, no model)"
if [ -r "$prompt_file" ]; then
    say "read the prompt: $(sed -n '/[^[:space:]]/{s/^#* *//p;q;}' "$prompt_file" | cut -c 1-90)"
fi
if [ -e "$(git rev-parse --git-path MERGE_HEAD)" ]; then
    say "an earlier run left a merge unfinished; start it again"
    git merge --abort
fi
# Commits that the target does not have mean that the ticket was worked on before and has come back.
if [ -n "$(git rev-list -n 1 "$target..HEAD")" ]; then
    merge_target
fi
"work_$ticket"
say "done; commits ahead of $target: $(git rev-list --count "$target..HEAD")"
