//! What we know of phones: profiles and devices read from files, resolved layer by layer, and the phones that were seen.
