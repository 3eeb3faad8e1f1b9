/* The shim alone, without Python: one id a call.
 * Usage: shim TIMES <IDS; prints ns a query. */
#include "ids.h"
#include "netlink.h"
#include "taskstats_shim.h"

static void query_all(struct ts_client *client, int n)
{
    static struct ts_record row;

    for (int i = 0; i < n; i++)
        if (ts_client_query(client, TS_TASK, &ids[i], 1, &row, NULL) != 1)
            exit(1);
}

int main(int argc, char **argv)
{
    struct ts_endpoint kernel = {
        .protocol = NETLINK_GENERIC, .synchronous = 1, .timeout_ms = 1000};
    int times = argc == 2 ? atoi(argv[1]) : 0;
    struct ts_client *client;
    struct ts_opened opened;
    int n = read_ids();
    int64_t start;

    if (times < 1 || n < 1 || ts_client_open(&kernel, 4 << 20, &client, &opened) < 0)
        return 2;
    query_all(client, n); /* to warm up */
    start = now();
    for (int i = 0; i < times; i++)
        query_all(client, n);
    printf("%.1f\n", (double)(now() - start) / times / n);
    return 0;
}
