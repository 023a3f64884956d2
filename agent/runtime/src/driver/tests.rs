mod batching;
mod delivery;
mod faults;
mod gaps;
mod harness;
mod isolation;
mod kill;
mod letters;
