//! What holds of the root state after every command.
