-- Ends a pause; an analysis that could not say measures anew.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/resume"] = attempt.hash .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
