//! The door, over records in memory and workers that take notes.
