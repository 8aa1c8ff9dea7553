//! Tests of the shared library against real parts.

mod postgres;
