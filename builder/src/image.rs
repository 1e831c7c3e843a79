//! Image files: partition tables, file systems in place, output.
