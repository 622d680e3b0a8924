"""The labelling server: the desk, the people and the guidelines of one database, behind HTTP.

app         puts the parts below together
site        what the endpoints work with: one database and how it is to be served
pages       HTML: signing in and out, the labelling page, the reviewer's page
api_label   JSON for annotators: next item, judgement, undo, guidelines
api_review  JSON for reviewers and admins: progress, agreement, annotators, people
schemas     the shapes of that JSON (schemas_review: for reviewers); with the endpoints the OpenAPI description
screen      an item as its annotator may see it
review      everything that the reviewer's page says
disputes    its items: those on which people disagree, flagged, or set aside
roll        everybody who is known, with what they have judged
stock       how much there is to judge, and how much has been judged
progress    what annotators are told of their own work
control     who is paused by themselves, on gold items
sessions    who is asking, and whether a browser was led to ask
hosts       the names that the server answers to
headers     what browsers are told never to do with our pages
limits      how often, and how much at once
refusals    every way to say no, in one sentence
markdown    untrusted text as harmless HTML
serving     the process: port, TLS, signals
address     where other commands find the server

Everything that comes from a browser, a model or an annotator is hostile. An annotator's answers hold neither item ids,
models, purposes of items, nor other people's names or judgements.
"""
