//! What every queue engine must do: put one under the suite with [`queue_contract`].
//!
//! Facts about one handle are in [`rules`], a random walk against a simple model in [`model`], and many threads and
//! processes, some of them killed, in [`crowd`].

pub(crate) mod crowd;
pub(crate) mod model;
pub(crate) mod rules;

use std::sync::Arc;
use std::time::Duration;

use super::{Claim, ClaimRequest, NewTicket, Queue, QueueError, Reopen};
use crate::model::TicketId;
use crate::model::ticket::{Dependency, DependencyKind, Ticket, TicketState};

/// An engine under test: one queue, reached by any number of handles.
pub(crate) trait Engine: Sized + Sync {
    /// Whether each handle has each change as an event of its own.
    const TELLS_EACH: bool = true;

    /// An empty queue that nobody else uses; it goes away with the value.
    fn fresh() -> Self;

    /// A handle on the queue, as another process would make it.
    fn handle(&self) -> Arc<dyn Queue>;

    /// A text by which another process finds the queue.
    fn address(&self) -> String;

    /// A handle made in another process.
    fn handle_at(address: &str) -> Arc<dyn Queue>;
}

/// Makes a test of every rule for one engine; `$path` is the path of the calling module without the crate name, by
/// which the suite finds its helper process again.
macro_rules! queue_contract {
    ($engine:ty, $path:literal) => {
        $crate::queue::contract::queue_contract!(@rules $engine;
            a_published_ticket_is_claimed_completed_and_landed
            a_key_publishes_once
            an_unknown_ticket_is_not_found
            a_withdrawn_publication_leaves_the_ticket_open
            higher_priority_comes_first_and_age_decides_among_equals
            an_edit_keeps_the_place_and_a_new_round_goes_to_the_end
            a_held_ticket_takes_no_new_content
            ids_that_differ_in_case_only_are_refused
            only_covered_capabilities_are_handed_out
            a_claim_can_be_limited_to_named_tickets
            a_claim_that_is_made_again_under_its_name_is_the_same_lease
            a_success_dependency_waits_for_the_landing
            a_completion_dependency_waits_for_review
            a_data_dependency_waits_like_a_completion
            a_ticket_that_starts_from_its_dependency_waits_for_review_of_the_last
            one_that_starts_from_its_dependency_waits_again_when_that_is_reopened_or_cancelled
            an_unknown_dependency_blocks_until_it_ends_well
            a_reopened_dependency_blocks_again
            a_cycle_is_refused_and_named
            a_dependency_on_ended_work_closes_no_cycle
            an_old_fence_changes_nothing
            ending_an_attempt_twice_is_ending_it_once
            an_overdue_lease_is_held_as_lost
            a_renewal_keeps_the_lease
            a_lost_ticket_is_taken_back_by_one
            a_ticket_is_reopened_only_from_the_states_that_are_named
            a_failed_attempt_may_be_tried_again_until_none_is_left
            a_retry_waits_for_its_time
            a_released_claim_counts_no_attempt
            a_dead_ticket_queued_by_hand_gets_its_attempts_anew
            a_new_round_goes_on_counting
            a_reopened_ticket_gets_a_new_fence_and_keeps_its_attempt
            a_landing_is_begun_by_one
            a_voided_or_deferred_verdict_goes_back
            a_cancelled_ticket_is_lost_to_its_holder
            an_illegal_edge_changes_nothing
            every_change_is_one_event
            content_survives_as_written
            a_role_has_one_leader_at_a_time
            a_lead_that_ran_out_is_taken_under_a_new_fence
            a_released_lead_is_free_at_once
            a_leader_that_died_is_succeeded_at_once_and_no_other_is
            an_overdue_lead_is_renewed_where_nobody_took_it
        );

        #[test]
        fn random_walks_agree_with_the_model() {
            $crate::queue::contract::model::random_walks_agree_with_the_model::<$engine>();
        }

        #[test]
        fn many_threads_share_the_work_without_doubles() {
            $crate::queue::contract::crowd::many_threads_share_the_work_without_doubles::<$engine>();
        }

        #[test]
        fn many_threads_that_want_to_lead_make_one_leader() {
            $crate::queue::contract::crowd::many_threads_that_want_to_lead_make_one_leader::<$engine>();
        }

        #[test]
        fn killed_processes_lose_and_double_nothing() {
            $crate::queue::contract::crowd::killed_processes_lose_and_double_nothing::<$engine>($path);
        }

        /// The process that the test above starts many times; alone it has nothing to do.
        #[test]
        fn helper_process() {
            $crate::queue::contract::crowd::helper_process::<$engine>();
        }
    };
    (@rules $engine:ty; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::queue::contract::rules::$rule::<$engine>();
            }
        )*
    };
}
pub(crate) use queue_contract;

/// A lease that no test outlives.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// An id known to be good.
pub(crate) fn id(text: &str) -> TicketId {
    text.parse().unwrap()
}

/// A ticket with defaults.
pub(crate) fn ticket(name: &str) -> Ticket {
    Ticket::plain(id(name))
}

/// A dependency on `name`.
pub(crate) fn needs(name: &str, kind: DependencyKind) -> Dependency {
    Dependency { ticket: id(name), kind }
}

/// Publishes under a key made of the ticket's id; its state then.
pub(crate) fn publish(queue: &dyn Queue, ticket: Ticket) -> Result<TicketState, QueueError> {
    let dedupe_key = format!("key of {}", ticket.id);
    queue.publish(&NewTicket { ticket, dedupe_key }).map(|published| published.state)
}

/// Publishes under a key of its own.
pub(crate) fn publish_as(queue: &dyn Queue, ticket: Ticket, key: &str) -> Result<TicketState, QueueError> {
    queue.publish(&NewTicket { ticket, dedupe_key: key.to_owned() }).map(|published| published.state)
}

/// A request of node `n1` for one ticket, with a long lease.
pub(crate) fn request() -> ClaimRequest {
    ClaimRequest {
        node: "n1".to_owned(),
        capabilities: Vec::new(),
        limit: 1,
        only: None,
        lease: LONG,
        request_id: None,
    }
}

/// Claims the best ticket.
pub(crate) fn claim(queue: &dyn Queue) -> Option<Claim> {
    queue.claim(&request()).unwrap().pop()
}

/// Claims one ticket by name.
pub(crate) fn claim_only(queue: &dyn Queue, name: &str) -> Claim {
    queue.claim(&ClaimRequest { only: Some(vec![id(name)]), ..request() }).unwrap().pop().unwrap()
}

/// The state of a ticket.
pub(crate) fn state(queue: &dyn Queue, name: &str) -> TicketState {
    queue.ticket(&id(name)).unwrap().unwrap().state
}

/// A request to reopen under `fence` that counts no attempt, from whatever state.
pub(crate) fn reopen(name: &str, fence: u64) -> Reopen {
    Reopen {
        ticket: id(name),
        expected_fence: fence,
        node: "n2".to_owned(),
        lease: LONG,
        counts_attempt: false,
        from: None,
    }
}
