//! The admin API of a process, and the commands that talk to it.

pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod drive;
pub(crate) mod drives;
pub(crate) mod extents;
pub(crate) mod groups;
pub(crate) mod model;
pub(crate) mod moves;
mod orders;
mod plans;
pub(crate) mod process;
mod render;
pub(crate) mod routes;
mod safety;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod upkeep;

use async_trait::async_trait;

/// What can be done to the enclosures of a cluster from here.
#[async_trait]
pub(crate) trait Enclosures: Send + Sync + 'static {
    /// The processes of enclosures that were started from here.
    fn processes(&self) -> Vec<model::Process>;

    /// Starts the process of an enclosure again, with the same ports and folder. Returns when it
    /// answers.
    async fn start(&self, id: u32) -> Result<model::Acted, ActError>;

    /// Stops the process of an enclosure. Returns when it has ended.
    async fn stop(&self, id: u32, how: model::StopEnclosure) -> Result<model::Acted, ActError>;

    /// Adds an enclosure, and returns when it has joined.
    async fn add(&self, new: model::AddEnclosure) -> Result<model::Acted, ActError>;

    /// Stops an enclosure that is no part of the cluster any more, if it was started from here, and
    /// does not start it again. Its folder stays.
    async fn forget(&self, id: u32) -> Result<(), ActError>;
}

/// Why nothing was done to an enclosure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// There is none of that id.
    #[error("there is no enclosure {0}")]
    NotFound(u32),
    /// It is in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// Not from this process.
    #[error("{0}")]
    Unsupported(String),
    /// It was tried and failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// A process that has no enclosures but perhaps its own.
pub(crate) struct NoEnclosures;

#[async_trait]
impl Enclosures for NoEnclosures {
    fn processes(&self) -> Vec<model::Process> {
        Vec::new()
    }

    async fn start(&self, _: u32) -> Result<model::Acted, ActError> {
        Err(refused())
    }

    async fn stop(&self, _: u32, _: model::StopEnclosure) -> Result<model::Acted, ActError> {
        Err(refused())
    }

    async fn add(&self, _: model::AddEnclosure) -> Result<model::Acted, ActError> {
        Err(refused())
    }

    async fn forget(&self, _: u32) -> Result<(), ActError> {
        Ok(())
    }
}

fn refused() -> ActError {
    ActError::Unsupported("this process supervises no others: ask that of `enfilade up`".to_owned())
}
