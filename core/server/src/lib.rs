//! The doors (PnP, HTTP, TFTP) and the desk behind them.

pub mod http;
pub mod request;
pub mod tftp;
