/* What holds of any input whatever. Checked here, for the tests and for the fuzzer. */
#ifndef PROPERTIES_H
#define PROPERTIES_H

#include <stddef.h>
#include <stdint.h>

/* layout.c, of a struct of this version with these bytes. */
void check_layout(const uint8_t *sent, size_t size, unsigned version);

/* netlink.c: of a datagram with these bytes, and of a request with this value. */
void check_messages(const uint8_t *datagram, size_t size);
void check_request(const uint8_t *value, size_t size);

/* netlink.c and decode.c. Returns what ts_decode does. */
int check_datagram(const uint8_t *datagram, size_t size);

/* decode.c, of a datagram that is received by the shape of the first. Returns what
 * ts_decode_cut does, or 0 if the first has none. */
int check_received(const uint8_t *first, size_t first_size, const uint8_t *datagram,
                   size_t size);

/* sequence.c, by a stream of exits that these bytes tell of. */
void check_stream(const uint8_t *story, size_t size);

/* peer.c, by a table of ports that these bytes make. */
void check_peers(const uint8_t *story, size_t size);

/* btf.c and offsets.c, of any bytes. Returns whether they are BTF. */
int check_btf(const uint8_t *data, size_t size);

/* ring.c, by a producer that does what these bytes say. */
void check_ring(const uint8_t *story, size_t size);

/* settle.c, by tasks, losses and drains that these bytes tell of. */
void check_settling(const uint8_t *story, size_t size);

/* jobs.c, kin.c and tally.c, by processes and jobs that these bytes tell of. `refused`: memory
 * may be refused. */
void check_lineages(const uint8_t *story, size_t size, int refused);

/* parentage.c, owners.c and doubts.c, by processes and jobs that these bytes tell of. */
void check_parents(const uint8_t *story, size_t size);

#endif
