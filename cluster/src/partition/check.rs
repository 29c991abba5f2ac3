//! What holds of a partition's rows after every command.
