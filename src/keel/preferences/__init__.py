"""Preferences: ask (blinded, sides drawn) → record (append-only) → aggregate → train. Nothing here imports torch.

judgement      the nouns, and the one place where sides become canonical
assign         who judges what, on which sides
store, schema  the database
simulate       annotators that are programs
importing      labels made elsewhere
aggregate, dawid_skene, bradley_terry   votes → probabilities and reliabilities → training data
agreement      how far annotators agree, and the accuracy that it allows
"""
