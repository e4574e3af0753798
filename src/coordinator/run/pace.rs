//! Models that want to be left alone: nothing new is started for one until its time is over. What runs goes on; it waits
//! by itself, and finds out first when the model answers again.

use crate::model::Time;
use crate::model::health::Pace;

/// Why nothing is started for a model now, as a clause, and until when; `None` where something may be.
pub(crate) fn held(model: &str, paces: &[Pace], now: Time) -> Option<(String, Time)> {
    let pace = paces.iter().find(|pace| pace.model == model && pace.holds_at(now))?;
    Some((format!("its model `{model}` asks for patience: {}", pace.why), pace.until))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::health::Pacing;

    #[test]
    fn a_model_is_held_until_its_time_is_over_and_others_are_not() {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let wait = Some(Duration::from_secs(60));
        let paces = [Pace::after_refusal(None, "opus", "429", wait, Pacing::default(), at(0))];
        let held_at = |model, seconds| held(model, &paces, at(seconds));
        assert_eq!(held_at("opus", 59), Some(("its model `opus` asks for patience: 429".to_owned(), at(60))));
        assert_eq!(held_at("opus", 60), None);
        assert_eq!(held_at("haiku", 1), None);
    }
}
