"""An appliance that is nobody yet: what each code, answer and failure leads to. Pure."""
