//! How the stripes of one blob are cut and coded.

pub(super) use enfilade_storage_node::api::shape::Shape;
