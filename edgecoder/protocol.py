"""Facts of the wire that no configuration may change.

Each stands with where it comes from: (seed) is the document the project was made from, (v1) the first EdgeCoder, whose
users must recognise it; the rest is this project's protocol.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1
"""The envelope version that this code writes; it reads PROTOCOL_VERSION_MIN to PROTOCOL_VERSION."""
PROTOCOL_VERSION_MIN: Final = 1

SIGNATURE_TAG: Final = b"edgecoder/envelope/1\x00"
"""Domain tag before the signed bytes, so that a signature can never be taken for one over something else."""
RECEIPT_TAG: Final = b"edgecoder/receipt/1\x00"
"""The same before what a receipt signs: it outlives its envelope."""
SIGNATURE_BYTES: Final = 64
"""Ed25519 (RFC 8032)."""
NODE_ID_BYTES: Final = 32
"""A node id is the SHA-256 of the node's public key."""

LOAD_UNAVAILABLE: Final = -1
"""`currentLoad` of a node that is changing its model (seed, "Model Swap Flow" 3). Only the codec knows it."""
PARAM_SIZE_MAX: Final = 10_000
"""Billions of parameters; the largest models have a tenth of it."""
OUTPUT_TOKENS_MAX: Final = 1 << 20
"""Tokens that one task may ask for."""
SLOTS_MAX: Final = 65_535
"""Tasks that a node may say it runs at once: sums over many nodes must fit into what the wire can say."""
WORK_TOKENS_ANY: Final = OUTPUT_TOKENS_MAX
"""`workTokensMax` of a node that takes tasks of any length."""
HOPS_MAX: Final = 1
"""Coordinators behind a task's home coordinator that may pass it on."""
RESPONSE_INDEX_MAX: Final = 1_000_000
"""A streamed response has at most this many parts."""

RECEIPTS_PER_BATCH: Final = 64
"""Receipts of one `ledgerBatch`: 16 KiB, so that a slow link is not held up for long."""

PIECES_MAX: Final = 1 << 16
"""Pieces of one file: a terabyte in pieces of 16 MiB."""
PIECES_PER_MESSAGE: Final = 256
"""Pieces that one message names."""
TICKET_TAG: Final = b"edgecoder/ticket/1\x00"
"""Domain tag before what a ticket signs."""
WHEREABOUTS_TAG: Final = b"edgecoder/whereabouts/1\x00"
"""The same before what a coordinator says of where it is reached."""
WHEREABOUTS_MS_MAX: Final = 604_800_000
"""So long at most a coordinator says that it holds (`whereabouts_ms`): a week, in which it is said again once."""
ENDPOINTS_MAX: Final = 4
"""Addresses of one coordinator that are told or kept."""
EXCHANGE_ROWS_MAX: Final = 64
"""Coordinators of one `peerExchange`: 32 KiB at most."""
OFFER_TAG: Final = b"edgecoder/offer/1\x00"
"""The same where a ticket lets its sender offer a connection: what is shown with a request opens none."""
CDN_ID: Final = bytes(NODE_ID_BYTES)
"""The CDN where a sender is named: no key has this hash."""

ATTEMPT_MAX: Final = (1 << 16) - 1
"""Requests for one task that one asker can tell apart."""

FRAME_BYTES_MAX: Final = 1 << 20
"""A longer envelope is dropped unread."""
TTL_MS_MAX: Final = (1 << 40) - 1
"""An envelope that claims to hold for longer (34 years) is dropped."""
EPOCH_MAX: Final = (1 << 32) - 1
"""Epochs are four bytes: seconds of Unix time fit into them until 2106."""
REPLAY_WINDOW: Final = 64
"""Envelopes of one sender that may overtake each other (the window of RFC 4303, section 3.4.3)."""
