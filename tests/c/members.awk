# tests/data/fields.tsv for C: X(name, offset, bytes, offset in version 15 or -1, version it came with)
BEGIN { FS = "\t" }
NR > 1 {
    split($10, since, " ")
    printf "X(%s, %d, %d, %d, %d)\n", $2, $5, $6, ($8 == "-" ? -1 : $8), since[1]
}
