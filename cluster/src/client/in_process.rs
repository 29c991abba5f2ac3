//! The client of a process that holds replicas itself: calls its own service without a copy, and
//! the other replicas by gRPC when they lead.

use std::time::Duration;

use async_trait::async_trait;
use enfilade_placement::EnclosureId;

use super::remote;
use super::retry::{Client, ClientSettings, Transport};
use crate::api::Result;
use crate::api::error::MetadataError;
use crate::api::root::RootView;
use crate::call::{Answer, Call};
use crate::server::MetadataService;

/// A client that calls the service object of its own process.
pub type InProcess = Client<Local>;

/// Calls the service object of this process.
pub struct Local {
    service: MetadataService,
}

/// A client of a service in this process.
pub fn client(service: &MetadataService) -> InProcess {
    let local = Local {
        service: service.clone(),
    };
    Client::new(local, service.env().clone(), ClientSettings::default())
}

#[async_trait]
impl Transport for Local {
    fn replicas(&self) -> Vec<EnclosureId> {
        let own = self.service.replica();
        let mut replicas = self.service.peers().known();
        replicas.retain(|replica| *replica != own);
        replicas.insert(0, own);
        replicas
    }

    async fn call(&self, replica: EnclosureId, call: &Call, limit: Duration) -> Result<Answer> {
        if replica != self.service.replica() {
            return remote::call_replica(self.service.peers(), replica, call, limit).await;
        }
        let clock = &self.service.env().clock;
        tokio::select! {
            answer = self.service.call(call) => answer,
            () = clock.sleep(limit) => Err(lost(call, "no answer in time")),
        }
    }

    fn learn(&self, view: &RootView) {
        remote::learn(self.service.peers(), view);
    }
}

/// An error that leaves a write uncertain, and a read undone.
pub(super) fn lost(call: &Call, why: &str) -> MetadataError {
    if call.writes() {
        MetadataError::UnknownOutcome(why.to_owned())
    } else {
        MetadataError::Unavailable(why.to_owned())
    }
}
