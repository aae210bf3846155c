//! The domain types and every business rule, as plain values and pure functions.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: time and randomness are
//! arguments. Each rule is in the file named after it:
//!
//! | Question | File |
//! |---|---|
//! | What does an HTTP result mean? | [`outcome`] |
//! | When is the next attempt, if there is one? | [`retry`] |
//! | When is an endpoint disabled? | [`disable`] |
//! | Which change triggers an email? | [`notice`] |
//! | Was an email accepted by the mail server? | [`email`] |
//! | What does a finished attempt change? | [`transition`] |
//! | How is a request signed? | [`signature`] |
//! | Where may a webhook be sent? | [`target`] |
//! | How many requests may be in flight to one endpoint? | [`concurrency_limit`] |
//! | Which shard does an endpoint belong to, and which node owns it? | [`assignment`] |
//! | What is wrong with a request to publish? | [`findings`] |
//! | What state is a node in? | [`node`] |
//! | How long does a replaced secret still sign? | [`secret`] |
//! | How long does a portal link work? | [`portal_link`] |
//! | Which past deliveries does a replay cover, and how fast is it? | [`replay`] |
//! | Are unfinished deliveries pending or held? | [`backlog`] |
//! | What are the size limits? | [`limits`] |
//! | Is a failure this node's own outage? | [`own_outage`] |
//! | Is this node's clock right? | [`clock_check`] |
//! | How long does a client of a server wait before it retries? | [`backoff`] |
//! | How is a duration written? | [`duration`] |
//! | How is JSON indented? | [`json`] |
//! | Which trace does a request belong to? | [`trace`] |
//! | How are attempts counted and summarized? | [`statistics`] |

pub mod account;
pub mod assignment;
pub mod attempt;
pub mod backlog;
pub mod backoff;
pub mod clock_check;
pub mod concurrency_limit;
pub mod delivery;
pub mod disable;
pub mod duration;
pub mod email;
pub mod endpoint;
pub mod event;
pub mod findings;
pub mod headers;
pub mod ids;
pub mod json;
pub mod limits;
pub mod node;
pub mod notice;
pub mod outcome;
pub mod own_outage;
pub mod portal_link;
pub mod rate_limit;
pub mod replay;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod statistics;
pub mod target;
pub mod throttle;
pub mod time;
pub mod trace;
pub mod transition;
