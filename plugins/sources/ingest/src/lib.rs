//! Source: the event API
