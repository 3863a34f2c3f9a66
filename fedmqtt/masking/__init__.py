"""A sum of which nobody sees a term: answers under masks, and seeds of the masks under seals.

    client        y = q + PRG(k_0) + ... + PRG(k_S-1)  mod 2^bits    values, masks, packing
                  k_i and a commitment: hashes of a fresh seed s_i         commitments
                  each seed sealed to the keyholders that may know it      seeds, sealing
                  all of it signed                                         attested, client
    coordinator   adds up the y of whom it has heard of          coordinator/masking/masked_sum.py
                  lists them                                               listing
    keyholder     adds up the masks of just those                          seeds, masks
    coordinator   subtracts: the sum of q, to the bit                      values

or, with a committee (an experiment), y = 2^guard * q + a*s + e in a ring, and the masks are of the
short key s alone                                                         committee, ring

One message of each client, and nothing that it is needed for later: whoever is not in the list is
in no sum, when it comes and goes as it likes. Of `places` keyholders any `tolerated` learn nothing,
not even together with the coordinator, and any `tolerated` + 1 can open a sum.

Prior art: seeds sealed to helpers, as in Xaynet's PET protocol (2020); replicated secret sharing,
Ito, Saito, Nishizeki, "Secret sharing scheme realizing general access structure", GLOBECOM 1987.
"""
