//! Everything that is tested from outside: golden renders, contracts, repository rules, and the real binary on the wire.
