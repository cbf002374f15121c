"""Views of an audit report; everything they show comes from the report alone."""
