//! Native engines: brought as packages, found, listed and removed.
