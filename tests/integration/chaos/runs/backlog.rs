//! The backlog of a play and the agents that work on it. Agents write down what they do in a log that no fault touches, and
//! look at what they find when they begin: what they had written has to be there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::scenery::Dice;
use super::place::Place;

/// How a ticket ends, whatever happens on the way.
pub(super) type Ends = BTreeMap<String, &'static str>;

/// Calls of a conversation of our own loop.
const CALLS: u64 = 5;

/// What agents and calls have in common. Everything that an attempt starts holds its lock; who finds it held tells.
const COMMON: &str = r#"
log() { until echo "$SWARM_TICKET $*" >> "$CHAOS/work.log"; do sleep 0.05; done; }
# Writes a file of the work, once, with a name that never has half of it.
put() {
    until mkdir -p work && echo "$SWARM_TICKET" > "work/.half.$1" && mv "work/.half.$1" "work/$1"; do sleep 0.1; done 2>/dev/null
    log "wrote $1"
}
# Commits what is there. A git that was killed may have left its lock; nobody but this attempt commits here.
save() {
    tries=0
    until git add -A work && git commit --quiet --allow-empty -m "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || rm -f "$(git rev-parse --git-dir)/index.lock"
        [ "$tries" -lt 300 ] || { log "cannot commit: $(git commit -m x 2>&1 | tr '\n' ' ')"; exit 9; }
        sleep 0.1
    done 2>/dev/null
}
"#;

/// An agent of steps: it leaves alone what it has done, saves every other step, and leaves the rest uncommitted.
const STEPS: &str = r#"
. "$CHAOS/common.sh"
. "$CHAOS/plans/$SWARM_TICKET"
exec 9>> "$CHAOS/locks/$SWARM_TICKET"
flock -n 9 || log "TWICE"
log "start $SWARM_ATTEMPT"
for written in $(sed -n "s/^$SWARM_TICKET wrote //p" "$CHAOS/work.log"); do
    [ -e "work/$written" ] || log "LOST $written"
done
fresh=0
for step in $(seq "$steps"); do
    [ ! -e "work/$SWARM_TICKET.$step" ] || continue
    sleep "$pause"
    put "$SWARM_TICKET.$step"
    fresh=1
    [ $((step % 2)) = 0 ] || save "Step $step"
done
case $SWARM_TICKET in
    bad*) exit 3 ;;
    flaky*) mkdir "$CHAOS/locks/$SWARM_TICKET.failed" 2>/dev/null && exit 1 ;;
    twin*)
        if grep -q '^<<<<<<<' "$clash"; then
            until grep -v '^[<=>]\{7\}' "$clash" | sort -u > "$clash.new" && mv "$clash.new" "$clash"; do sleep 0.1; done
            git add "$clash"
            fresh=1
        elif ! grep -q "^$SWARM_TICKET\$" "$clash"; then
            until { cat "$clash"; echo "$SWARM_TICKET"; } > "$clash.new" && mv "$clash.new" "$clash"; do sleep 0.1; done
            git add "$clash"
            fresh=1
        fi
        [ ! -e "$(git rev-parse --git-dir)/MERGE_HEAD" ] || save "Merge" ;;
esac
# Its work came back: something new is expected.
[ "$fresh" = 1 ] || save "Looked at it again"
log "end"
"#;

/// One call of a conversation.
const CALL: &str = r#"
. "$CHAOS/common.sh"
log "call $SWARM_ATTEMPT $1"
exec 9>> "$CHAOS/locks/$SWARM_TICKET"
flock -n 9 || log "TWICE"
sleep 0.4
put "$SWARM_TICKET.$1"
"#;

/// Notes the tree of what really lies there, outside of the repository and its disk.
const GATE: &str = r#"
export GIT_INDEX_FILE="$CHAOS/tmp/index.$$" GIT_ALTERNATE_OBJECT_DIRECTORIES="$(git rev-parse --git-path objects)"
export GIT_OBJECT_DIRECTORY="$CHAOS/tmp/objects.$$"
mkdir "$GIT_OBJECT_DIRECTORY"
git add -A && tree=$(git write-tree)
status=$?
rm -rf "$GIT_INDEX_FILE" "$GIT_OBJECT_DIRECTORY"
[ "$status" = 0 ] || exit 1
sleep 0.05
echo "pass $tree" >> "$CHAOS/gates.log"
"#;

/// Settings: short times, nobody to approve, and no end of patience with agents that are killed.
const CONFIG: &str = "agent: steps
max_workers: 5
run: {backoff: {first: 100ms, max: 400ms}}
landing: {approval: auto, tries: 50}
limits: {grace: 300ms, snapshot_every: 1s}
health: {crash_loop: {count: 0, within: 1s}}
gates: [{name: tree, run: sh $CHAOS/gate.sh}]
pass_env: [CHAOS]
";

/// Writes a backlog; how each of its tickets ends.
pub(super) fn write(place: &Place, dice: &mut Dice) -> Ends {
    let (swarm, root) = (&place.swarm, place.swarm.root());
    for (name, text) in [
        ("common.sh", COMMON),
        ("steps.sh", STEPS),
        ("call.sh", CALL),
        ("gate.sh", GATE),
        ("work.log", ""),
        ("gates.log", ""),
    ] {
        swarm.write_at(&root.join(name), text);
    }
    std::fs::create_dir(root.join("locks")).unwrap();
    swarm.write(".swarm/config.yaml", CONFIG);
    swarm.write(".git/info/exclude", ".swarm/\n");
    swarm.write_shell_agent("steps", "sh $CHAOS/steps.sh");
    swarm.write(".swarm/script.yaml", &conversation());
    let head =
        "runtime: replay\nmodel: .swarm/script.yaml\npermission_mode: acceptEdits\npermissions:\n  allow: [Bash]\n";
    swarm.write(".swarm/agents/talks.md", &format!("---\nname: talks\ndescription: Our own loop\n{head}---\nWork.\n"));
    for clash in ["clash1.txt", "clash2.txt"] {
        swarm.write(clash, "a person\n");
    }
    swarm.git(["add", "."]).success();
    swarm.git(["commit", "--quiet", "-m", "Start"]).success();
    let mut ends = Ends::new();
    let mut ticket = |id: &str, needs: &[(&str, &str)], end| {
        let needs: Vec<_> = needs.iter().map(|(need, kind)| format!("{{ticket: {need}, kind: {kind}}}")).collect();
        let agent = if id.starts_with("talk") { "talks" } else { "steps" };
        let attempts = if id.starts_with("bad") { 2 } else { 90 };
        let head = format!("agent: {agent}\nmax_attempts: {attempts}\ndepends_on: [{}]\n", needs.join(", "));
        swarm.write(&format!(".swarm/tickets/{id}.md"), &format!("---\n{head}---\nSCRIPT:talk\nDo {id}.\n"));
        let (steps, pause) = (2 + dice.below(4), 10 + dice.below(80));
        let clash = if ["twin1", "twin2"].contains(&id) { "clash1.txt" } else { "clash2.txt" };
        let plan = format!("steps={steps}\npause=0.{pause:02}\nclash={clash}\n");
        swarm.write_at(&root.join("plans").join(id), &plan);
        ends.insert(id.to_owned(), end);
    };
    for number in 1..=12 {
        ticket(&format!("plain{number}"), &[], "landed");
    }
    for number in 1..=5 {
        ticket(&format!("talk{number}"), &[], "landed");
    }
    for id in ["twin1", "twin2", "twin3", "twin4", "flaky1", "flaky2"] {
        ticket(id, &[], "landed");
    }
    ticket("after1", &[("plain1", "success")], "landed");
    ticket("after2", &[("after1", "success"), ("talk1", "success")], "landed");
    ticket("after3", &[("after2", "success"), ("twin1", "completion")], "landed");
    ticket("after4", &[("flaky1", "completion")], "landed");
    ticket("bad1", &[], "dead");
    ticket("never", &[("bad1", "success")], "blocked");
    swarm.run(["trust", "--yes"]).success();
    ends
}

/// What the agent of our own loop says and calls.
fn conversation() -> String {
    let call = |number| format!("      - calls:\n          - Bash: {{command: sh $CHAOS/call.sh {number}}}\n");
    let calls: String = (1..=CALLS).map(call).collect();
    // Whoever goes on with it when it was through already is told so once more.
    format!("otherwise: Done.\nconversations:\n  - name: talk\n    turns:\n{calls}      - say: Done.\n")
}

/// The files that a ticket's work consists of: the steps of a plan, or what calls wrote. A call that was interrupted is told
/// to the model as such; a scripted one goes on with its next.
pub(super) fn files(place: &Place, ticket: &str) -> BTreeSet<String> {
    if ticket.starts_with("talk") {
        let of_ticket = work_log(place).into_iter().filter(|(id, _)| id == ticket);
        let written = of_ticket.filter_map(|(_, words)| Some(format!("work/{}", words.strip_prefix("wrote ")?)));
        return written.collect();
    }
    let plan = std::fs::read_to_string(place.swarm.root().join("plans").join(ticket)).unwrap();
    let steps: u64 = plan.lines().find_map(|line| line.strip_prefix("steps=")).unwrap().parse().unwrap();
    (1..=steps).map(|step| format!("work/{ticket}.{step}")).collect()
}

/// What agents wrote down: ticket and words.
pub(super) fn work_log(place: &Place) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(place.swarm.root().join("work.log")).unwrap();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(id, words)| (id.to_owned(), words.to_owned())).collect()
}
