"""The benchmark: a seeded stream, the measured cases, and the peer they are compared with (`mmsim bench`)."""
