"""Who may ask for what: tokens, sealed values, rates, and which sources may be audited."""
