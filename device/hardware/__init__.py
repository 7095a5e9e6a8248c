"""One file a part: a small protocol and the real driver beside it; `build` opens them together."""
