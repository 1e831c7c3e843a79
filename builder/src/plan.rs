//! What a build will do, computed without doing it.
