//! A delivery as queries return it.

use postrider_domain::delivery::{Delivery, DeliveryState};

/// A delivery with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub delivery: Delivery,
    pub state: DeliveryState,
}
