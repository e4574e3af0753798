use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::*;
impl Control {
    pub(crate) fn tickets(&self) -> Result<TicketsView, Failure> {
        unreachable!()
    }
    pub(crate) fn agents(&self) -> Result<AgentsView, Failure> {
        unreachable!()
    }
}
