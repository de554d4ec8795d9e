-- Goes back to the revision that was good before; the template in Git is not deployed until it is another one.
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/undo"] = obj.status.previousRevision .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
