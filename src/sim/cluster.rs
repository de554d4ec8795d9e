    (canary * 100).checked_div(stable + canary).unwrap_or(0)
