use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::*;
impl Control {
    pub(crate) fn kept(&self) -> Result<RecoverView, Failure> { unreachable!() }
}
