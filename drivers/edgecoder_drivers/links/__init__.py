"""Links over WebSockets: a handshake by the nodes' keys, then one binary message an envelope."""
