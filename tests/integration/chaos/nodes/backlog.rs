//! The backlog of a play and the agents that work on it. Agents write down when they do what, in a log that no fault
//! touches.

use std::collections::BTreeMap;

use super::super::scenery::Dice;
use crate::support::swarm::TestSwarm;

/// By ticket, how many steps its work has.
pub(super) type Plans = BTreeMap<String, u64>;

/// Tickets that change a file of their own alone.
const PLAIN: u64 = 34;

/// Leaves alone what is there, saves every other step, and leaves the rest uncommitted. Whoever starts for a ticket while
/// another one runs for it in the same clone finds the lock held.
const STEPS: &str = r#"
. "$CHAOS/plans/$SWARM_TICKET"
log() { echo "$(date +%s.%N) $CHAOS_NODE $SWARM_TICKET $SWARM_ATTEMPT $*" >> "$CHAOS/work.log"; }
save() {
    tries=0
    until git add -A && git commit --quiet --allow-empty -m "$1"; do
        tries=$((tries + 1))
        [ "$tries" -gt 1 ] || log "cannot save yet: $(git status --short | head -3 | tr '\n' ' ')"
        [ "$tries" -lt 20 ] || rm -f "$(git rev-parse --git-dir)/index.lock"
        [ "$tries" -lt 300 ] || { log "cannot commit: $(git commit -m x 2>&1 | tr '\n' ' ')"; exit 9; }
        sleep 0.1
    done 2>/dev/null
}
exec 9>> "$CHAOS/locks/$CHAOS_NODE.$SWARM_TICKET"
flock -n 9 || log "TWICE"
mkdir -p work
log "begin $(ls work | grep -c "^$SWARM_TICKET\.")"
fresh=0
for step in $(seq "$steps"); do
    [ ! -e "work/$SWARM_TICKET.$step" ] || continue
    sleep "$pause"
    echo "$SWARM_TICKET $step" > "work/.half.$step" && mv "work/.half.$step" "work/$SWARM_TICKET.$step"
    log "step $step"
    fresh=1
    [ $((step % 2)) = 0 ] || save "Step $step"
done
case $SWARM_TICKET in
    flaky*) mkdir "$CHAOS/locks/$SWARM_TICKET.failed" 2>/dev/null && { log "fail"; exit 1; } ;;
    twin*)
        merge() { [ -e "$(git rev-parse --git-dir)/MERGE_HEAD" ]; }
        log "finds$(merge && echo " a merge"), $(grep -c '^<<<<<<<' "$clash") conflicts"
        if grep -q '^<<<<<<<' "$clash"; then
            grep -v '^[<=>]\{7\}' "$clash" | sort -u > "$clash.new" && mv "$clash.new" "$clash" || log "cannot resolve"
            fresh=1
        elif ! grep -q "^$SWARM_TICKET\$" "$clash"; then
            echo "$SWARM_TICKET" >> "$clash"
            fresh=1
        fi
        ! merge || save "Merge" ;;
esac
# Its work came back, or it is done already: something new is expected.
[ "$fresh" = 1 ] || save "Looked at it again"
log "end"
"#;

/// Notes the tree of what really lies there, outside of any clone.
const GATE: &str = r#"
export GIT_INDEX_FILE="$CHAOS/tmp/index.$CHAOS_NODE.$$" GIT_ALTERNATE_OBJECT_DIRECTORIES="$(git rev-parse --git-path objects)"
export GIT_OBJECT_DIRECTORY="$CHAOS/tmp/objects.$CHAOS_NODE.$$"
mkdir "$GIT_OBJECT_DIRECTORY"
git add -A && tree=$(git write-tree)
status=$?
rm -rf "$GIT_INDEX_FILE" "$GIT_OBJECT_DIRECTORY"
[ "$status" = 0 ] || exit 1
echo "pass $tree" >> "$CHAOS/gates.log"
"#;

/// Settings: short times, nobody to approve, and no end of patience with agents that are killed.
const CONFIG: &str = "agent: steps
max_workers: 2
run: {backoff: {first: 100ms, max: 400ms}}
landing: {approval: auto, tries: 50}
limits: {grace: 300ms, snapshot_every: 1s}
health: {crash_loop: {count: 0, within: 1s}}
gates: [{name: tree, run: sh $CHAOS/gate.sh}]
pass_env: [CHAOS, CHAOS_NODE]
";

/// Writes a backlog into the repository that all nodes clone.
pub(super) fn write(ground: &TestSwarm, dice: &mut Dice, settings: &str) -> Plans {
    let root = ground.root();
    for (name, text) in [("steps.sh", STEPS), ("gate.sh", GATE), ("work.log", ""), ("gates.log", "")] {
        ground.write_at(&root.join(name), text);
    }
    std::fs::create_dir(root.join("locks")).unwrap();
    ground.write(".swarm/config.yaml", &format!("{CONFIG}{settings}"));
    ground.write_shell_agent("steps", "sh $CHAOS/steps.sh");
    for clash in ["clash1.txt", "clash2.txt"] {
        ground.write(clash, "a person\n");
    }
    let mut plans = Plans::new();
    let mut ticket = |id: &str, needs: &[(&str, &str)]| {
        let needs: Vec<_> = needs.iter().map(|(need, kind)| format!("{{ticket: {need}, kind: {kind}}}")).collect();
        let head = format!("agent: steps\nmax_attempts: 90\ndepends_on: [{}]\n", needs.join(", "));
        ground.write(&format!(".swarm/tickets/{id}.md"), &format!("---\n{head}---\nDo {id}.\n"));
        let (steps, pause) = (2 + dice.below(7), 4 + dice.below(12));
        let clash = if ["twin1", "twin2"].contains(&id) { "clash1.txt" } else { "clash2.txt" };
        let plan = format!("steps={steps}\npause={}.{}\nclash={clash}\n", pause / 10, pause % 10);
        ground.write_at(&root.join("plans").join(id), &plan);
        plans.insert(id.to_owned(), steps);
    };
    for number in 1..=PLAIN {
        ticket(&format!("plain{number:02}"), &[]);
    }
    for id in ["twin1", "twin2", "twin3", "twin4", "flaky1", "flaky2"] {
        ticket(id, &[]);
    }
    ticket("after1", &[("plain01", "success")]);
    ticket("after2", &[("after1", "success"), ("plain02", "success")]);
    ticket("after3", &[("after2", "success"), ("twin1", "completion")]);
    ticket("after4", &[("flaky1", "completion")]);
    ground.git(["add", "."]).success();
    ground.git(["commit", "--quiet", "-m", "Backlog"]).success();
    plans
}

/// Something that an agent did.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// Seconds since 1970.
    pub(super) at: f64,
    /// The node.
    pub(super) node: String,
    /// The ticket.
    pub(super) ticket: String,
    /// Its attempt there.
    pub(super) attempt: String,
    /// What it did.
    pub(super) words: String,
}

/// What agents did so far.
pub(super) fn marks(ground: &TestSwarm) -> Vec<Mark> {
    let text = std::fs::read_to_string(ground.root().join("work.log")).unwrap();
    let mark = |line: &str| {
        let mut fields = line.splitn(5, ' ').map(str::to_owned);
        let at = fields.next()?.parse().ok()?;
        let (node, ticket, attempt) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mark { at, node, ticket, attempt, words: fields.next()? })
    };
    text.lines().filter_map(mark).collect()
}
