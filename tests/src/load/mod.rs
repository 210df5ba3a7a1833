//! Steady load: many users, HTTP/1.1 and HTTP/2, every answer checked.

mod connection;
mod plan;
mod record;
mod run;
mod survey;

pub use connection::{Answer, Connection, Failure, Protocol};
pub use plan::{Expect, Pace, Plan, Question};
pub use record::{Interval, Report};
pub use run::Load;
pub use survey::survey;
