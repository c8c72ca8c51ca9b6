/* random_writer SEED N BIG: N writes of random size and stream, each with its number, stream and size in front;
   nine in ten up to 2 kB, one in ten up to BIG bytes. The same seed gives the same writes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    unsigned seed = atoi(argv[1]);
    int count = atoi(argv[2]), big = atoi(argv[3]);
    char *line = malloc(big + 64);
    for (int i = 0; i < count; i++) {
        int size = rand_r(&seed) % 10 ? 1 + rand_r(&seed) % 2000 : 1 + rand_r(&seed) % big;
        int fd = 1 + rand_r(&seed) % 2;
        int head = sprintf(line, "%d:%d:%d:", i, fd, size);
        if (size < head + 1)
            size = head + 1;
        memset(line + head, 'a' + i % 26, size - head);
        line[size - 1] = '\n';
        if (write(fd, line, size) != size) {
            perror("write");
            return 1;
        }
    }
    return 0;
}
