# A damped oscillator, x'' = -(2 pi f)^2 x - 2 g x', released from x = 1 at rest, seen with normal noise.
#
#   awk -f oscillator.awk PARAMETERS OUTPUT
#
# PARAMETERS: lines of a name and a number: frequency (Hz), damping (1/s), noise, steps (of the integration,
# between two times), times, spacing (s), and two seeds, seed_1 and seed_2, below 2^32, as random as can be.
# OUTPUT: a line "time displacement" for each time. Exit status 1 and a line on standard error if a number is missing.

BEGIN {
    if (ARGC != 3) fail("two files are needed: parameters and output")
    output = ARGV[2]
    while ((status = (getline line < ARGV[1])) > 0) {
        split(line, word, " ")
        given[word[1]] = word[2]
    }
    if (status < 0) fail("cannot read " ARGV[1])
    count = split("frequency damping noise steps times spacing seed_1 seed_2", needed, " ")
    for (i = 1; i <= count; i++) if (given[needed[i]] !~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) fail("no number: " needed[i])

    sow(given["seed_1"] + 0, given["seed_2"] + 0)
    stiffness = (2 * 3.14159265358979 * given["frequency"]) ^ 2
    drag = 2 * given["damping"]
    h = given["spacing"] / given["steps"]
    x = 1; v = 0
    for (i = 1; i <= given["times"]; i++) {
        for (j = 0; j < given["steps"]; j++) step()
        printf "%.9g %.9g\n", i * given["spacing"], x + given["noise"] * normal() > output
    }
    if (close(output) != 0) fail("cannot write " output)
    exit 0
}

# One step of the classical Runge-Kutta method of order four.
function step(    a1, a2, a3, a4, v2, v3, v4) {
    a1 = -stiffness * x - drag * v
    v2 = v + h / 2 * a1; a2 = -stiffness * (x + h / 2 * v) - drag * v2
    v3 = v + h / 2 * a2; a3 = -stiffness * (x + h / 2 * v2) - drag * v3
    v4 = v + h * a3;     a4 = -stiffness * (x + h * v3) - drag * v4
    x += h / 6 * (v + 2 * v2 + 2 * v3 + v4)
    v += h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
}

# Random numbers of the program's own, since those of one awk are not those of another: two multiplicative
# congruential generators together (L'Ecuyer 1988, doi:10.1145/62959.62969); all products are below 2^53.
function sow(first, second) {
    one = 1 + first % 2147483562
    two = 1 + second % 2147483398
}

function uniform(    z) {
    one = (40014 * one) % 2147483563
    two = (40692 * two) % 2147483399
    z = one - two
    if (z < 1) z += 2147483562
    return z / 2147483563
}

# Box and Muller 1958.
function normal() {
    return sqrt(-2 * log(uniform())) * cos(2 * 3.14159265358979 * uniform())
}

function fail(why) {
    print "oscillator: " why > "/dev/stderr"
    exit 1
}
