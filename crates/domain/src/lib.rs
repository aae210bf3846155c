//! The vocabulary and every rule of the business, as plain values and plain functions.
//!
//! Nothing here waits, reads a clock, rolls a die or touches a socket: time and luck are
//! arguments. Each rule stands in the file that bears its name:
//!
//! | Question | File |
//! |---|---|
//! | What does an HTTP result mean? | [`outcome`] |
//! | When is the next attempt, or is it the end? | [`retry`] |
//! | When is an endpoint disabled? | [`disable`] |
//! | Which change earns an email? | [`notice`] |
//! | What has become of an email? | [`email`] |
//! | What does one finished attempt change? | [`machine`] |
//! | How is a request signed? | [`signature`] |
//! | Where may a webhook be sent? | [`target`] |
//! | How many may be in flight to one endpoint? | [`pace`] |
//! | Which shard does an endpoint belong to, and which node owns it? | [`ownership`] |
//! | What is wrong with a request to publish? | [`findings`] |
//! | What state is a node in? | [`node`] |
//! | How long does a replaced secret still sign? | [`secret`] |
//! | How long does a portal link work? | [`portal_link`] |
//! | Which past deliveries does a replay take, and how fast? | [`replay`] |
//! | Are unfinished deliveries pending or held? | [`backlog`] |
//! | How large may anything be? | [`limits`] |
//! | How is a duration written? | [`duration`] |
//! | Which trace does work belong to? | [`trace`] |
//! | How are attempts counted, and what do the counts say? | [`statistics`] |

pub mod account;
pub mod backlog;
pub mod delivery;
pub mod disable;
pub mod duration;
pub mod email;
pub mod endpoint;
pub mod event;
pub mod findings;
pub mod headers;
pub mod ids;
pub mod limits;
pub mod machine;
pub mod node;
pub mod notice;
pub mod outcome;
pub mod ownership;
pub mod pace;
pub mod portal_link;
pub mod replay;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod statistics;
pub mod target;
pub mod time;
pub mod trace;
