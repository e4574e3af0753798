//! The engine of `swarm run` and `swarm up`, and the rules by which it decides.

mod distribution;
mod scope;
