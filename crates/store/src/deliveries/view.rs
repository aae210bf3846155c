//! A delivery as it is read.

use postrider_domain::delivery::{Delivery, DeliveryState};

/// A delivery with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub delivery: Delivery,
    pub state: DeliveryState,
}
