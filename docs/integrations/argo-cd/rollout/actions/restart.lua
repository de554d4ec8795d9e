-- Replaces all pods by fresh ones of the same template.
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/restart"] = obj.status.stableRevision .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
