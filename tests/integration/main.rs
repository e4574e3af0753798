//! Integration tests: the real program against real git, tmux and agents.

mod support;
