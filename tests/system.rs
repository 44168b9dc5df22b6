//! Needs root and other users.
