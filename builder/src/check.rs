//! What would not boot or not cluster, one rule a finding.
