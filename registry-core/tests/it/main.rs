//! The tests of this crate, in one binary so that it is linked once.

mod blob_suite;
mod metadata_mutants;
mod metadata_suite;
