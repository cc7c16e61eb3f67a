//! The tests of this crate, in one binary so that it is linked once.

mod blob_mutants;
mod blob_suite;
mod copies;
mod fault;
mod gc_interleaving;
mod metadata_mutants;
mod metadata_suite;
mod parsers;
mod registry;
