//! The root state machine against its invariants.

mod buckets;
mod door;
mod harness;
mod ledger;
mod moves;
mod random;
mod replicas;
mod topology;
mod upkeep;
mod volumes;
